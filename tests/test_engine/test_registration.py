from mmengine.registry import DefaultScope

from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.registry import HOOKS, LOOPS, METRICS


def test_register_all_modules_sets_the_scope_only_if_asked():
    register_all_modules(init_default_scope=False)
    for registry, name in ((LOOPS, 'PretrainLoop'), (HOOKS, 'ModelStepHook'), (METRICS, 'RetrievalRecall')):
        assert registry.get(name) is not None, name
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        register_all_modules()
        assert DefaultScope.get_current_instance().scope_name == 'mmmaskclip'
