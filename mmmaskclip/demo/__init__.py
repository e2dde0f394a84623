"""A local page that shows what a dense model sees: words, segmentation, likeness of patches, search of a folder.

From bottom to top: :mod:`.photos` and :mod:`.settings` check what a person gives; :mod:`.seen_models` runs the models;
:mod:`.pictures` colours maps; :mod:`.views` makes what the page shows; :mod:`.downloads` the files that it offers;
:mod:`.folders` searches; :mod:`.server` answers the browser with the files of ``page/``.
"""
