"""What a command may print: lines of ours, and those of RL Zoo and Stable-Baselines3 that tell a user something."""

import re

WANTED = [
    r"=+ \S+ =+",  # the environment
    r"Seed: \d+",
    r"Loading (hyperparameters from: |pretrained agent|saved VecNormalize stats)",
    r"Using (\d+ environments|cpu device)",
    r"(Overwriting n_timesteps with n=\d+|Creating test environment|Normalization activated: .*)$",
    r"(Log path|Logging to|Saving to) ?",
    r"Eval num_timesteps=\d+, episode_reward=",
    r"Episode length: ",
    r"New best mean reward!$",
    r"-+$|\|.*\|$",  # SB3's table of metrics
    # of a search
    r"Optimizing hyperparameters$|Sampler: ",
    r"\[I [-\d :,]+\] Trial \d+ (finished|pruned)",
    r"(Number of finished trials: |Best trial:$|Value: |Params: $|    [\w.]+: |User Attributes: $|Writing report to )",
    # ours
    r"Plastic scan of the layers: ",
    r"Compiling the fused kernels, once per version and type of number",
    r"Budget: |Study: |To do: |Best of \d+ finished trials: |  sb3-plastic train ",
    r"Wrote \d+ episodes",
    r"Nothing was changed by |Some episodes of |Rewards stand for |There are no relative scores: ",  # remarks
    r" +scenarios  episodes  forward reward |protocol +split +control *$",  # the table of an evaluation
    r"(static|onset|horizon|lifetime|removal|switch| {8}) +(\w+ +)*[-\d.]+ ",
]


def stray_lines(output: str) -> list[str]:
    """
    The lines that are none of these, for instance warnings and dumps of settings.

    :param output: of a command
    """
    return [line for line in output.splitlines() if line and not any(re.match(wanted, line) for wanted in WANTED)]
