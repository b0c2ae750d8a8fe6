"""Records in, documents out: tables, curves, bullets, the architecture; and the reading back that proves them."""
