# The protocol of TIPS (Maninis et al. 2024) and TIPSv2: shorter side 448, windows of 448 every 336 px, TCL's nine
# templates, the last block's values (their notebook).
_base_ = './tcl.py'

test_cfg = dict(segmentor=dict(read_out='value', test_cfg=dict(stride=(336, 336))))
