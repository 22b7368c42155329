"""What is shown of parts, recipes and plans: listings, descriptions, prices, generated pages of the documentation."""
