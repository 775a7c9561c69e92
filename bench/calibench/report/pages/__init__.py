"""Parts put together: the Markdown report, the page, and exports."""
