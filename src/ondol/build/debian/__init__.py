"""Images of a distribution's packages: what apt brings, unpacked beside each other, without installing.

`image.build` is the way in. `control` (packages and what they need), `units` (what a package's service
runs) and `scripts` (the accounts it would have) are pure; `apt` fetches and unpacks; `content` says what of
it goes into an image, and `accounts` as whom it runs.
"""
