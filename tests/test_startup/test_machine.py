import resource

import pytest
from mmengine.config import Config

from mmmaskclip.startup import machine
from mmmaskclip.startup.machine import Machine, look_at_machine, raise_file_limit, shortages

PLENTY = Machine(cores=64, memory=2**39, shared_memory=2**36, open_files=2**20, driver='580.65.06')


def config(**loader):
    return Config({'model': {'image_encoder': {'img_size': 224}}, 'train_dataloader': loader})


OURS = dict(num_workers=8, batch_size=128, collate_fn=dict(type='mmmaskclip.collate_samples'))


def test_plenty_says_nothing_and_neither_does_a_run_without_workers():
    assert not shortages(config(**OURS), PLENTY, 8)
    assert not shortages(config(num_workers=0, batch_size=4096), Machine(1, None, 0, 64, None), 8)
    assert not shortages(Config({}), PLENTY, 1)


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'cores': 8}, '8 cores are few for 8 processes with 8 workers each: give at least 40 (srun --cpus-per-task'),
        ({'shared_memory': 2**26}, '/dev/shm has 0.1 GiB free, and the batches on their way from the workers need'),
        ({'open_files': 256}, 'This process may open 256 files, and its batches need about 384: raise the limit'),
    ],
)
def test_what_is_too_little_is_named_with_the_remedy(change, text):
    (line,) = shortages(config(**OURS), Machine(**{**vars(PLENTY), **change}), 8)
    assert text in line


def test_large_batches_come_in_parts_of_which_two_batches_wait():
    # 2 workers x 8 parts of 128 images of 147 KiB: 0.29 GiB, where whole batches would need 0.57.
    loader = dict(num_workers=2, batch_size=1024, collate_fn=dict(type='mmmaskclip.collate_image_text'))
    little, less = (Machine(**{**vars(PLENTY), 'shared_memory': size}) for size in (3 * 2**27, 2**28))
    assert not shortages(config(**loader, dataset=dict(type='ImageTextShards')), little, 1)
    (line,) = shortages(config(**loader, dataset=dict(type='ImageTextShards')), less, 1)
    assert 'need about 0.3 GiB' in line
    # Their batches stay whole.
    (line,) = shortages(config(**loader, dataset=dict(type='MixedSources')), little, 1)
    assert 'need about 0.6 GiB' in line


def test_batches_that_are_lists_need_a_file_per_sample():
    listed = config(num_workers=16, batch_size=2048, collate_fn=dict(type='pseudo_collate'))
    (line,) = shortages(listed, Machine(**{**vars(PLENTY), 'open_files': 4096}), 1)
    assert 'its batches need about 65792' in line


def test_limits_of_a_container_are_seen(monkeypatch, tmp_path):
    (tmp_path / 'cpu.max').write_text('150000 100000\n')
    (tmp_path / 'memory.max').write_text(f'{2**30}\n')
    monkeypatch.setattr(machine, '_CGROUP', tmp_path)
    found = look_at_machine()
    assert (found.cores, found.memory) == (1, 2**30)
    assert str(found).startswith('1 cores, memory 1.0 GiB, /dev/shm')
    (tmp_path / 'cpu.max').write_text('max 100000\n')
    (tmp_path / 'memory.max').write_text('max\n')
    assert look_at_machine().memory > 2**30


def test_the_limit_of_open_files_is_raised_to_the_hard_one(monkeypatch):
    given = []
    monkeypatch.setattr(resource, 'setrlimit', lambda kind, limits: given.append(limits))
    for limits in ((1024, 4096), (1024, resource.RLIM_INFINITY), (4096, 4096), (resource.RLIM_INFINITY,) * 2):
        monkeypatch.setattr(resource, 'getrlimit', lambda kind, limits=limits: limits)
        raise_file_limit()
    assert given == [(4096, 4096), (2**20, resource.RLIM_INFINITY)]
