"""The plastic spiking network, without reinforcement learning: state, neurons, rules, layers."""
