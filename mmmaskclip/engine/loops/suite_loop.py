"""Evaluates one checkpoint on a suite of data sets, one after the other, and resumes after the last finished set."""

import hashlib
import json
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import nn

from mmmaskclip.datasets.evaluation.labelled_images import MissingImages
from mmmaskclip.engine.loops.evaluation_loop import EvaluationLoop
from mmmaskclip.engine.loops.suite_table import Published, average, format_suite
from mmmaskclip.evaluation.prompted_metric import PromptedMetric
from mmmaskclip.registry import LOOPS
from mmmaskclip.utils.fingerprint import fingerprint as fingerprint_of
from mmmaskclip.utils.progress import track


@LOOPS.register_module()
class SuiteLoop(EvaluationLoop):
    """Evaluates a checkpoint on every set of a suite that is present; serves as ``val_cfg`` and as ``test_cfg``.

    Each set is built just before its evaluation. A set whose images are missing (its dataset raises ``MissingImages``)
    is listed and left out; any other error, such as a wrong number of samples, ends the run. After each set the loop
    writes the results to ``WORK_DIR/SUITE_HASH.json``, where HASH is the hash of the weights. A set with a stored
    result of the same fingerprint is not evaluated again, even if its images were deleted. Stored results are never
    removed. The fingerprint covers the weights, the model's config, class names, templates, the configs of dataset and
    metric, the number of samples and the precision. At the end the loop prints a table with the scores of the sets, and
    their average beside the averages of papers.

    The suite is one evaluation: hooks run before its first and after its last set. If a hook swaps in other weights
    (EMA), the loop hashes and evaluates those.

    Args:
        runner: The runner.
        dataloader: Config of each set's dataloader, by name.
        evaluator: Config of each set's metric, by name. The metric must give ``score``, as ``ZeroShotClassification``
            and ``LogisticRegressionProbe`` do.
        suite: Name of the suite, for the table and the file.
        published: Averages from papers, each a dict with ``name``, ``average``, ``source``, and ``without``, the sets
            of the suite that the average leaves out.

    Raises:
        ValueError: If dataloaders and evaluators do not name the same sets, or ``without`` names an unknown set.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Mapping[str, Any],
        evaluator: Mapping[str, Any],
        suite: str,
        published: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        if not isinstance(evaluator, Mapping) or dataloader.keys() != evaluator.keys():
            raise ValueError(f'{suite}: dataloaders are of {list(dataloader)}, evaluators of {list(evaluator)}')
        self.configs = {name: (dataloader[name], evaluator[name]) for name in dataloader}
        self.suite = suite
        self.published = [Published.of(row, self.configs) for row in published]
        # No tasks yet: the base class would build all of them at once.
        super().__init__(runner, {}, {})

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        """Evaluate every set that is present and has no stored result.

        Returns:
            All metrics of all sets that are present, as ``SET/METRIC``, and ``average`` of their scores, on every
            process.

        Raises:
            MissingImages: If no set is present.
            ValueError: If a set's metric gives no ``score``.
        """
        mode, was_training = self.mode, self.runner.model.training
        self.runner.call_hook(f'before_{mode}')
        self.runner.call_hook(f'before_{mode}_epoch')
        self.runner.model.eval()
        metrics = self._run_sets()
        self.runner.call_hook(f'after_{mode}_epoch', metrics=metrics)
        self.runner.call_hook(f'after_{mode}')
        self.runner.model.train(was_training)
        return metrics

    def _run_sets(self) -> dict[str, float]:
        model = self.runner.model.module if is_model_wrapper(self.runner.model) else self.runner.model
        weights = _hash_weights(model)
        path = Path(self.runner.work_dir, f'{self.suite}_{weights[:12]}.json')
        # Only the main process reads: the others could see the file before or after its replacement.
        stored = _of_main_process(_read(path) if is_main_process() else None)
        results: dict[str, dict] = {}
        missing: dict[str, str] = {}
        for number, name in enumerate(track(self.configs, 'Sets'), 1):
            reason = self._build(name)
            fingerprint, earlier = self._fingerprint(name, weights), stored.get(name, {}).get('fingerprint', {})
            label = f'{name} ({number} of {len(self.configs)})'
            if fingerprint.items() <= earlier.items():
                done = 'was done earlier, its images are gone' if reason else 'is done already'
                print_log(f'{label} {done}: see {path}', logger='current')
                results[name] = stored[name]
            elif reason:
                missing[name] = reason
            else:
                loader = self.dataloaders[name]
                size = f'{len(cast(Sized, loader.dataset))} samples, {len(loader)} batches'
                print_log(f'Evaluating {label}: {size}', logger='current')
                results[name] = {'metrics': self._evaluate(name), 'fingerprint': fingerprint}
                self._write(path, stored, results, missing)
        self._release()
        if not results:
            listed = '\n  '.join(missing.values())
            raise MissingImages(f'None of the {len(missing)} sets of {self.suite} is present:\n  {listed}')
        self._write(path, stored, results, missing)
        scores = {name: result['metrics']['score'] for name, result in results.items()}
        print_log(format_suite(self.suite, list(self.configs), scores, missing, self.published), logger='current')
        metrics = {
            f'{name}/{key}': value for name, result in results.items() for key, value in result['metrics'].items()
        }
        return {**metrics, f'{self.suite}/average': average(scores)}

    def _build(self, name: str) -> str:
        """Make one set the only task of this loop. On all processes, returns why the set is missing, or ''."""
        self._release()
        dataloader, evaluator = self.configs[name]
        # The evaluator is built even without images, because its prompts are part of the fingerprint.
        self.evaluators[name] = self._build_evaluator(self.runner, name, evaluator)
        reason = ''
        try:
            self.dataloaders[name] = self._build_dataloader(self.runner, dataloader)
            self._introduce(name)
        except MissingImages as error:
            reason = f'{name}: {error}'
        # One machine may lack the images; then all processes must skip the set together.
        reason = next(filter(None, _of_all_processes(reason)), '')
        if reason:
            self.dataloaders.clear()
        return reason

    def _release(self) -> None:
        self.dataloaders.clear()
        self.evaluators.clear()

    def _evaluate(self, name: str) -> dict[str, float]:
        loader = self.dataloaders[name]
        self._run_task(name, loader, self.mode, 0)
        metrics = self.evaluators[name].evaluate(len(cast(Sized, loader.dataset)))
        values = {key.removeprefix(f'{name}/'): float(value) for key, value in metrics.items()}
        if 'score' not in values:
            raise ValueError(f'the metric of {name} gives {sorted(values)} and no score; a suite averages scores')
        return values

    def _fingerprint(self, name: str, weights: str) -> dict[str, Any]:
        """Everything the result depends on. The number of samples is left out if the images are missing."""
        dataloader, metric = self.configs[name]
        dataset, device = dataloader['dataset'], next(self.runner.model.parameters()).device.type
        precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        fingerprint: dict[str, Any] = {
            'weights': weights,
            'model': fingerprint_of(self.runner.cfg.get('model')),
            'transforms': fingerprint_of(dataset.get('transforms')),
            'dataset': fingerprint_of(dataset),
            'metric': fingerprint_of(metric),
            'precision': str(precision),
        }
        # Probes have no prompts. The file names in the config would not reveal a change of their content.
        for prompts in [one.prompts for one in self.evaluators[name].metrics if isinstance(one, PromptedMetric)]:
            fingerprint['classes'] = fingerprint_of(prompts.classes)
            fingerprint['templates'] = fingerprint_of(prompts.templates)
            fingerprint['num_classes'] = len(prompts.classes)
        if name in self.dataloaders:
            fingerprint['num_samples'] = len(cast(Sized, self.dataloaders[name].dataset))
        return fingerprint

    def _write(
        self, path: Path, stored: Mapping[str, dict], results: Mapping[str, dict], missing: Mapping[str, str]
    ) -> None:
        if not is_main_process():
            return
        scores = {name: result['metrics']['score'] for name, result in results.items()}
        # Stored results of other sets stay in the file for a later call, but do not count in the average.
        sets = {**stored, **results}
        content = {'suite': self.suite, 'average': average(scores), 'sets': sets, 'missing': list(missing)}
        path.parent.mkdir(parents=True, exist_ok=True)
        # Atomic write: an interruption loses no stored result.
        part = path.with_suffix('.part')
        part.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
        part.replace(path)


def _read(path: Path) -> dict[str, dict]:
    return json.loads(path.read_text(encoding='utf-8'))['sets'] if path.is_file() else {}


def _hash_weights(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, independent of the file that they were loaded from."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        # As bytes, because NumPy has no bfloat16.
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _of_main_process(value: Any) -> Any:
    return _of_all_processes(value)[0]


def _of_all_processes(value: Any) -> list:
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
