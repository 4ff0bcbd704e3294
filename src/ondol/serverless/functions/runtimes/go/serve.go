// Serves a Go function: health, the function itself, and an end in order at SIGTERM.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
)

const forms = "a function exports New(), whose result has Handle, or Handle itself, in one of the forms that the documentation lists"

func main() {
	if err := serve(theFunction()); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func serve(function any) error {
	handler := handlerOf(function)
	if handler == nil {
		return errors.New(forms)
	}
	if f, ok := function.(interface {
		Start(context.Context, map[string]string) error
	}); ok {
		if err := f.Start(context.Background(), environment()); err != nil {
			return err
		}
	}
	routes := http.NewServeMux()
	routes.HandleFunc("/health/liveness", health(checkOf(function, "Alive")))
	routes.HandleFunc("/health/readiness", health(checkOf(function, "Ready")))
	routes.Handle("/", handler)
	listeners, err := listen()
	if err != nil {
		return err
	}
	server := &http.Server{Handler: routes}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	failed := make(chan error, len(listeners))
	var isEnding atomic.Bool
	for _, listener := range listeners {
		go func(listener net.Listener) {
			if err := server.Serve(listener); !isEnding.Load() {
				failed <- err
			}
		}(listener)
	}
	select {
	case err := <-failed:
		return err
	case <-ended:
	}
	isEnding.Store(true)
	if err := server.Shutdown(context.Background()); err != nil {
		return err
	}
	if f, ok := function.(interface{ Stop(context.Context) error }); ok {
		return f.Stop(context.Background())
	}
	return nil
}

func checkOf(function any, name string) func(context.Context) (bool, error) {
	switch name {
	case "Alive":
		if f, ok := function.(interface {
			Alive(context.Context) (bool, error)
		}); ok {
			return f.Alive
		}
	case "Ready":
		if f, ok := function.(interface {
			Ready(context.Context) (bool, error)
		}); ok {
			return f.Ready
		}
	}
	return func(context.Context) (bool, error) { return true, nil }
}

func health(check func(context.Context) (bool, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		isWell, err := check(r.Context())
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case !isWell:
			http.Error(w, "not well", http.StatusServiceUnavailable)
		default:
			fmt.Fprint(w, "OK")
		}
	}
}

func environment() map[string]string {
	variables := map[string]string{}
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		variables[name] = value
	}
	return variables
}

func listen() ([]net.Listener, error) {
	addresses := os.Getenv("LISTEN_ADDRESS")
	if addresses == "" {
		port := os.Getenv("PORT")
		if port == "" {
			port = "8080"
		}
		addresses = ":" + port
	}
	var listeners []net.Listener
	for _, address := range strings.Split(addresses, ",") {
		listener, err := net.Listen("tcp", strings.TrimSpace(address))
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}
