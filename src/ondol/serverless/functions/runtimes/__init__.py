"""The small servers around functions' code, which their images have: data to the platform, not parts of it.

`python` is a package that needs nothing but the standard library, `node` a file for Node.js, `go` the main
package that a Go function is compiled with.
"""
