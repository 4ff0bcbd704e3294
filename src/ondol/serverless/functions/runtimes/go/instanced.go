// The function is what its `New` makes.
package main

import f "function"

func theFunction() any { return f.New() }
