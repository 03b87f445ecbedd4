"""Views: two differing looks at one creative, made in batches on the device, from random numbers that belong to the creative."""
