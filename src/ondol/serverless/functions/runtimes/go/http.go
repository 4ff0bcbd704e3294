// What a Go function that answers HTTP is compiled with: it serves the function until SIGTERM.
package main

import (
	"context"
	"net/http"
)

type withContext interface {
	Handle(context.Context, http.ResponseWriter, *http.Request)
}

// handlerOf is a function's `Handle` in one of its forms.
func handlerOf(function any) http.Handler {
	switch f := function.(type) {
	case interface {
		Handle(http.ResponseWriter, *http.Request)
	}:
		return http.HandlerFunc(f.Handle)
	case withContext:
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.Handle(r.Context(), w, r) })
	case func(http.ResponseWriter, *http.Request):
		return http.HandlerFunc(f)
	case func(context.Context, http.ResponseWriter, *http.Request):
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f(r.Context(), w, r) })
	}
	return nil
}
