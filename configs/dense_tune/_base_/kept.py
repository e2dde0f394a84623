# What every dense tuning keeps. The teacher is the model that the run starts from: with a momentum of 1 it stays.
preserve = dict(type='PreserveGlobal', weight=1.0)
start = dict(teacher_momentum=1.0)
# On images alone the text tower stays, too.
images_alone = dict(**start, text_encoder=dict(frozen=True), text_projection=dict(frozen=True))
temperature = dict(_delete_=True, type='FixedTemperature')
# Nothing new is taught, so neither may fall. The last weights that were within a point are kept.
watch = dict(type='GeneralAbilityHook', max_fall=1.0, retrieval=True, on_fall='restore')
