"""The report's images: inline SVG, coloured by the page's style sheet so that they follow light and dark."""
