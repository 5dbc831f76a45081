"""Programs that look after the repository; nothing in `layerdex` imports them."""
