"""What may be added, one row each: engines, algorithms of reinforcement learning, rewards.

Facts only, on the ground floor: settings check names against these rows, and everything above reads them.
"""
