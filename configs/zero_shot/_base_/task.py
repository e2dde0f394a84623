# What the zero-shot configs share. Set MMMASKCLIP_EVAL to the folder that holds the sets.
_base_ = '../../_base_/evaluation_runtime.py'

data_root = '{{$MMMASKCLIP_EVAL:data/zero_shot}}'
