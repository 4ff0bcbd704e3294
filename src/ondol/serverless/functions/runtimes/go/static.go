// The function is its `Handle`.
package main

import f "function"

func theFunction() any { return f.Handle }
