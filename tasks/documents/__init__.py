"""Records in, documents out: tables, curves, résumé bullets and the architecture picture; and the reading back that proves them."""
