"""How Sphinx makes the site of these pages: scripts/build-docs. Nothing in it is loaded from elsewhere."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from probe.version import VERSION  # noqa: E402 - after the path is set

project = "Singularity compatibility probe"
author = "its authors"
project_copyright = ""
release = version = VERSION
language = "en_GB"

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["site-theme"]
# Anchors of headings as GitHub makes them, so that one link works in both places.
myst_heading_anchors = 4
# Text of commands holds (c) and quotes that are meant.
smartquotes = False
nitpicky = True

html_theme = "furo"
html_title = project
html_static_path = ["site-theme"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_last_updated_fmt = None
# Indented text is what people type and see: no language to guess.
highlight_language = "text"
html_theme_options = {"top_of_page_buttons": []}
