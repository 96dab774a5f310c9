"""Who are the patients of a study at this site, as numbers a model can read?"""

from __future__ import annotations

from site_node.cohort.features import Features as Features
from site_node.cohort.features import load_features as load_features
