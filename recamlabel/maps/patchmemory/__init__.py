"""Variant ``patchmemory``: how far a patch is from all patches of images that are known to hold nothing.

A class map says what tells the classes apart; what is not in the normal images is a question of its own, and the
normal images answer it without a label: their patches are remembered, and a patch of another image is as anomalous
as its nearest remembered patch is far. The image's labels say what the anomaly is.

Sources: memory of mid-level patch features, their local averages and the greedy coreset are PatchCore (Roth et al.,
"Towards Total Recall in Industrial Anomaly Detection", CVPR 2022, sections 3.1 and 3.2); the cosine distance of each
patch to its nearest neighbour is AnomalyDINO (Damm et al., WACV 2025, section 3.1).
"""
