"""Trains the networks of `reference/fsvideo` on clips of moving shapes, and exports them as a model folder.

python3 -m training.train --out DIR       (in reference/; goes on from DIR by itself)
python3 -m training.export --from DIR --to models/shapes
"""
