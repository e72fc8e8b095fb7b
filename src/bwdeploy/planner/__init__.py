"""What a deployment will need and give, by arithmetic: stored weights, memory, layouts, speed. Pure.

`weights` says how each tensor is stored, `memory` what each GPU holds, `layout` which layouts work, `speed`
how long a step takes. Nothing here is measured.
"""
