"""Imported by the server from which test processes are forked, as the last of what it imports."""

from settled import remember_shipped_configs, settle

from mmmaskclip.engine.registration import register_all_modules

remember_shipped_configs()
register_all_modules(init_default_scope=False)
settle()
