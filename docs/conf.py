"""How Sphinx builds the documentation: Markdown in, plain pages out, nothing fetched from anywhere."""

from __future__ import annotations

from cassiopeia import __version__

project = "Cassiopeia"
author = "the Cassiopeia contributors"
release = __version__

extensions = ["myst_parser"]
myst_heading_anchors = 4  # links to headings are checked like links to pages

html_theme = "alabaster"
html_theme_options = {
    "description": "A certificate authority whose keys cannot be reached",
    "fixed_sidebar": True,
    "show_powered_by": False,
    "font_family": "system-ui, sans-serif",
    "head_font_family": "system-ui, sans-serif",
}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
html_copy_source = False
html_show_copyright = False
