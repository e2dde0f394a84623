import pytest
from mmengine.config import Config

from mmmaskclip.cli.paths import check_paths
from mmmaskclip.config_check import ConfigMistake


def test_paths_name_the_nearest(tmp_path, monkeypatch):
    (tmp_path / 'shards').mkdir()
    (tmp_path / 'weights.pth').touch()
    dataset = dict(urls=f'{tmp_path}/shrads', data_root=str(tmp_path))
    cfg = Config(dict(load_from=f'{tmp_path}/wieghts.pth', train_dataloader=dict(dataset=dataset)))
    with pytest.raises(ConfigMistake, match=r'(?s)load_from=.*mean .*/weights.pth.*urls=.*mean .*/shards') as error:
        check_paths(cfg)
    assert 'data_root' not in str(error.value)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigMistake, match=f'folder of it that exists is {tmp_path}'):
        check_paths(Config(dict(load_from='nothing/like.it')))
    made = dict(dataset=dict(type='mmpretrain.CIFAR10', data_root='made/by/it'))
    check_paths(Config(dict(train_dataloader=made)))
    (tmp_path / '3.tar').touch()
    # Of a pattern of many the dataset's preflight names those that are missing.
    fine = ['pipe:cat x', 'https://a/b.tar', f'{tmp_path}/{{0..3}}.tar', f'{tmp_path}/*.tar']
    check_paths(Config(dict(train_dataloader=dict(dataset=dict(urls=fine)))))


@pytest.mark.parametrize('urls', ['shrads/*.tar', 'shrads/{0..3}.tar', ['shrads/0.tar']])
def test_patterns_that_match_nothing_are_named(tmp_path, monkeypatch, urls):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'shards').mkdir()
    cfg = Config(dict(val_dataloader=dict(task=dict(dataset=dict(urls=urls)))))
    with pytest.raises(ConfigMistake, match=r'val_dataloader\.task\.dataset\.urls=.*Did you mean .*shards\?'):
        check_paths(cfg)
    check_paths(cfg, 'test')
    with pytest.raises(ConfigMistake, match='checkpoint=.*Did you mean .*shards'):
        check_paths(cfg, 'test', checkpoint='shrads')


@pytest.mark.parametrize('kind', ['auto', 'mmmaskclip.auto'])
def test_pairs_as_they_are_are_looked_for_before_anything_is_built(tmp_path, kind):
    (tmp_path / 'pairs.csv').touch()
    dataset = dict(type=kind, path=f'{tmp_path}/pairs.tsv')
    with pytest.raises(ConfigMistake, match=r'train_dataloader\.dataset\.path=.*Did you mean .*/pairs\.csv\?'):
        check_paths(Config(dict(train_dataloader=dict(dataset=dataset))))
    for fine in (f'{tmp_path}/pairs.csv', f'{tmp_path}/*.csv', 'hf://datasets/a/b'):
        check_paths(Config(dict(train_dataloader=dict(dataset=dict(type=kind, path=fine)))))


def test_lists_are_looked_for_below_the_root(tmp_path):
    (tmp_path / 'train.json').touch()
    loader = dict(dataset=dict(data_root=str(tmp_path), ann_file='train.json'))
    cfg = Config(dict(train_dataloader=loader, test_dataloader=loader, test_cfg=dict(type='SuiteLoop')))
    check_paths(cfg)
    cfg.merge_from_dict({'train_dataloader.dataset.ann_file': 'tarin.json', 'test_dataloader.dataset.data_root': '/no'})
    check_paths(cfg, 'test')  # a suite goes on without the sets that are missing
    with pytest.raises(ConfigMistake, match=r'dataset\.ann_file=.*Did you mean .*/train.json'):
        check_paths(cfg)
