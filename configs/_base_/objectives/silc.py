# SILC (Naeem et al. 2023). Sizes and crops stand in the configs.
local_to_global = dict(
    type='LocalToGlobalDistillation',
    global_views=('image', 'image_2'),
    local_views=('local',),
    weight=1.0,
)
