"""What every page is built from: the page itself, lists, forms, charts, pickers and exports."""
