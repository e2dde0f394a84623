from mmengine.config import Config
from settled import FORMAT
from yapf.yapflib import yapf_api

from mmmaskclip.startup.config_text import format_configs_once


def test_a_text_is_formatted_once_and_as_mmengine_does(monkeypatch):
    formatted = []

    def counted(text, **options):
        formatted.append(text)
        return FORMAT(text, **options)

    monkeypatch.setattr(yapf_api, 'FormatCode', counted)
    cfg = Config(dict(model=dict(type='A', layers=[1, 2])))
    by_mmengine = cfg.pretty_text
    format_configs_once.__wrapped__()
    formatted.clear()
    assert [cfg.pretty_text for _ in range(3)] == [by_mmengine] * 3
    assert len(formatted) == 1
    cfg.model.type = 'B'
    assert "type='B'" in cfg.pretty_text
    assert len(formatted) == 2
