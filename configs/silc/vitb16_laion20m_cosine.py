"""SILC with a teacher momentum that rises to 1 on a cosine, as a summary of the paper has it (and the paper has not).

tools/dist_train.sh configs/silc/vitb16_laion20m_cosine.py 32

Here: not run at full scale.
"""

_base_ = 'vitb16_laion20m.py'

model = dict(teacher_momentum=dict(_delete_=True, begin=0.996, end=1.0, curve='cosine'))
