"""Results of many runs -> what people read: tables (tables.py) and one page that needs nothing but itself (page.py)."""
