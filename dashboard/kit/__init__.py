"""The building blocks of every page: the page itself, lists, forms, charts, pickers and exports."""
