"""What can be added, one row each: engines, RL algorithms, rewards.

Facts only, on the ground floor: settings check names against these rows, and everything above reads them.
"""
