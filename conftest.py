"""What a machine cannot run: the examples of the dense CRF where its package is not installed."""

from recamlabel.refine.crf import crf_available

collect_ignore = [] if crf_available() else ["recamlabel/refine/crf.py"]
