"""What `--help` says of the commands that forward to RL Zoo, above RL Zoo's own list of arguments."""

TRAIN = """\
sb3-plastic train: train an agent, or go on with one.

Trains with the configuration of zoo_configs, unless -conf names another, and writes to logs/<algo>/<env>_<n>: the
model, the statistics of VecNormalize, all settings, and the best model of the evaluations.

examples:
  sb3-plastic train --env HalfCheetah-v5 --progress
  sb3-plastic train --env HalfCheetah-v5 --tensorboard-log runs --seed 1 -n 300000
  sb3-plastic train --env HalfCheetah-v5 -params "policy_kwargs:dict(rule='none')"    # the static control
  sb3-plastic train --env Ant-v5 --algo plastic_es                                    # by evolution strategies
  sb3-plastic train --env HalfCheetah-v5 -i logs/plastic_ppo/HalfCheetah-v5_1/HalfCheetah-v5.zip   # go on with a model

defaults that differ from RL Zoo's:
  --algo plastic_ppo; hyperparameters are printed with --verbose 2 only
"""

TUNE = """\
sb3-plastic tune: search hyperparameters with Optuna.

Each trial is a training with the configured number of steps (-n changes it), so a search takes as long as that many
trainings: the budget is printed first. The study is kept in logs/<algo>/<env>.study.log, and the same command goes on
with it after an interruption. The command that trains with the best trial is printed last. Rule, modulation and the
sizes of the network are not searched: they are what one compares.

examples:
  sb3-plastic tune --env HalfCheetah-v5 --n-trials 20 -n 100000
  sb3-plastic tune --env HalfCheetah-v5 --n-trials 20 -n 100000 --storage search.log --study-name oja

defaults that differ from RL Zoo's:
  --algo plastic_ppo, --n-trials 50 (those that are finished count), no plots in a browser
"""

ENJOY = """\
sb3-plastic enjoy: watch a trained agent, or print its returns.

examples:
  sb3-plastic enjoy --env HalfCheetah-v5                              # in a window
  sb3-plastic enjoy --env HalfCheetah-v5 --no-render -n 5000          # returns alone; needs no display
  sb3-plastic enjoy --env HalfCheetah-v5 --exp-id 2 --load-best       # the second run's best model
  sb3-plastic enjoy --env HalfCheetah-v5 -f docs/results/learning/agents --no-render
  sb3-plastic enjoy --model m.zip             # a zip, a run or an exported folder, without RL Zoo and without running
                                              # what its files hold: `sb3-plastic enjoy --model m.zip --help`

defaults that differ from RL Zoo's:
  --algo plastic_ppo, -f logs (--exp-id 0 is the latest run there)
"""

RECORD = """\
sb3-plastic record: write a video of a trained agent.

The video goes to the folder videos beside the model. Without a display, MuJoCo draws with EGL.

examples:
  sb3-plastic record --env HalfCheetah-v5 -n 300
  sb3-plastic record --env HalfCheetah-v5 --load-best -o videos
  sb3-plastic record --model m.zip --out m.gif      # a zip, an export, or a folder of `sb3-plastic adapt`

defaults that differ from RL Zoo's:
  --algo plastic_ppo, -f logs
"""

PLOT = """\
sb3-plastic plot: draw learning curves.

examples:
  sb3-plastic plot train -e HalfCheetah-v5                            # returns of training episodes
  sb3-plastic plot all -e HalfCheetah-v5 --save curve.png -o curve    # evaluations during training, and a table
  sb3-plastic plot file -i curve                                      # what `plot all -o` saved, of two runs or more

defaults that differ from RL Zoo's:
  -a plastic_ppo, -f logs; of `train` -w 10; of `all` -print, the number of runs (of one, +/- 0 says nothing); without
  a display the figure is written to plot_train.png (`train`), all_plots.png (`all`) or plot_from_file.png (`file`)
"""

HELP = {"train": TRAIN, "tune": TUNE, "enjoy": ENJOY, "record": RECORD, "plot": PLOT}
"""By command."""
