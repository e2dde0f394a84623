"""Imported by the server from which test processes are forked, as the last of what it imports."""

from settled import settle

from mmmaskclip.engine.registration import register_all_modules

register_all_modules(init_default_scope=False)
settle()
