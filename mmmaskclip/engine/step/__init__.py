"""One iteration of pretraining, told once.

Who runs when (D: on the device, queued without waiting; H: on the host)::

    before the forward pass
      ModelStepHook        H  model.set_progress(steps_taken / steps of the run)
      NonFiniteHook        H  at the first iteration of a step: copy schedules and parameter groups (lr, weight decay);
                           D  copy the model's buffers
    model.train_step
      PretrainOptimWrapper D  forward pass under autocast; backward pass, in float16 of the scaled loss;
                              note whether the loss is finite
                           the rest only in the iteration that ends an accumulation (every iteration without one):
                           H  read the outcome of the step before; the device has long finished it
                           D  unscale the gradient, measure its norm, clip it
                           D  one all-reduce (max) of three flags: skip this step? a loss not finite? stop asked for?
                           H  steps_taken += 1, and a new StepOutcome starts its copy to the host
                           D  the optimizer steps, or skips if the flag says so
    after the backward pass, in this order
      ModelStepHook        D  model.after_optimizer_step(): EMA copies, codeword centre, clamp of the temperature
      TrainingMonitorHook  D  keep losses and gradient norm; at the end of a log interval one reduction and H one read
      StepTimerHook        H  estimate the remaining time
      LoggerHook           H  at the end of a log interval print what the monitor has read
      ParamSchedulerHook   H  move learning rate and weight decay by the schedules that count iterations
      NonFiniteHook        D  restore the buffers of a skipped step
                           H  restore its schedules and report it, as soon as the outcome is known
      ReliableCheckpointHook, PreemptionHook, WatchdogHook

When the host knows the outcome. With a fused optimizer on a GPU the device skips by itself. The host reads the flags
just before the next step, when the next forward and backward pass are already queued, so no step waits. Everywhere else
(CPU, sharded parameters, optimizers without fused kernels) the host reads the flags at once. A checkpoint, the end of
an epoch and the end of the run read them too.

What a skipped step undoes. Parameters and optimizer state never moved. EMA copies: the host leaves them out, or the
device multiplies their update by 0. Buffers (codeword centre, batch statistics) and schedules by iterations return to
their values before the step, or before the whole accumulation. ``steps_taken`` goes back by one and ``steps_skipped``
up by one. What is not undone: the position in the data, the random numbers drawn, the float16 loss scale (which the
step lowered), schedules by epochs.

Two counters are public, on :class:`PretrainOptimWrapper`: ``steps_taken`` and ``steps_skipped``. Whoever must know that
a step has ended compares ``optim_wrapper.outcome`` with the :class:`StepOutcome` it saw last. Whoever moves something
with a step gives that outcome the function that moves it back (``if_skipped``).
"""

from mmmaskclip.engine.step.model_step_hook import ModelStepHook
from mmmaskclip.engine.step.nonfinite_hook import NonFiniteHook
from mmmaskclip.engine.step.optim_wrapper import PretrainOptimWrapper
from mmmaskclip.engine.step.outcome import StepOutcome
from mmmaskclip.engine.step.timer_hook import StepTimerHook
from mmmaskclip.engine.step.training_monitor_hook import TrainingMonitorHook

__all__ = [
    'ModelStepHook',
    'NonFiniteHook',
    'PretrainOptimWrapper',
    'StepOutcome',
    'StepTimerHook',
    'TrainingMonitorHook',
]
