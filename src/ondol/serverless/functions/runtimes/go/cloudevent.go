// What a Go function that takes CloudEvents is compiled with: requests become events, its event the answer.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
)

type handle func(context.Context, event.Event) (*event.Event, error)

func handlerOf(function any) http.Handler {
	if f := formOf(function); f != nil {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(f, w, r) })
	}
	return nil
}

// formOf is a function's `Handle` in the form that takes and answers most.
func formOf(function any) handle {
	switch f := function.(type) {
	case interface{ Handle() }:
		return formOf(f.Handle)
	case interface{ Handle() error }:
		return formOf(f.Handle)
	case interface{ Handle(context.Context) }:
		return formOf(f.Handle)
	case interface{ Handle(context.Context) error }:
		return formOf(f.Handle)
	case interface{ Handle(event.Event) }:
		return formOf(f.Handle)
	case interface{ Handle(event.Event) error }:
		return formOf(f.Handle)
	case interface{ Handle(context.Context, event.Event) }:
		return formOf(f.Handle)
	case interface {
		Handle(context.Context, event.Event) error
	}:
		return formOf(f.Handle)
	case interface {
		Handle(event.Event) *event.Event
	}:
		return formOf(f.Handle)
	case interface {
		Handle(event.Event) (*event.Event, error)
	}:
		return formOf(f.Handle)
	case interface {
		Handle(context.Context, event.Event) *event.Event
	}:
		return formOf(f.Handle)
	case interface {
		Handle(context.Context, event.Event) (*event.Event, error)
	}:
		return f.Handle
	case func():
		return func(context.Context, event.Event) (*event.Event, error) { f(); return nil, nil }
	case func() error:
		return func(context.Context, event.Event) (*event.Event, error) { return nil, f() }
	case func(context.Context):
		return func(c context.Context, _ event.Event) (*event.Event, error) { f(c); return nil, nil }
	case func(context.Context) error:
		return func(c context.Context, _ event.Event) (*event.Event, error) { return nil, f(c) }
	case func(event.Event):
		return func(_ context.Context, e event.Event) (*event.Event, error) { f(e); return nil, nil }
	case func(event.Event) error:
		return func(_ context.Context, e event.Event) (*event.Event, error) { return nil, f(e) }
	case func(context.Context, event.Event):
		return func(c context.Context, e event.Event) (*event.Event, error) { f(c, e); return nil, nil }
	case func(context.Context, event.Event) error:
		return func(c context.Context, e event.Event) (*event.Event, error) { return nil, f(c, e) }
	case func(event.Event) *event.Event:
		return func(_ context.Context, e event.Event) (*event.Event, error) { return f(e), nil }
	case func(event.Event) (*event.Event, error):
		return func(_ context.Context, e event.Event) (*event.Event, error) { return f(e) }
	case func(context.Context, event.Event) *event.Event:
		return func(c context.Context, e event.Event) (*event.Event, error) { return f(c, e), nil }
	case func(context.Context, event.Event) (*event.Event, error):
		return f
	}
	return nil
}

func answer(f handle, w http.ResponseWriter, r *http.Request) {
	e, err := decoded(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	reply, err := f(r.Context(), *e)
	if err != nil {
		fmt.Fprintln(os.Stderr, "the function failed:", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if reply == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if err := encode(w, reply); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func decoded(r *http.Request) (*event.Event, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	contentType := r.Header.Get("Content-Type")
	e := event.New()
	switch lower := strings.ToLower(contentType); {
	case strings.HasPrefix(lower, "application/cloudevents-batch"):
		return nil, errors.New("batches of events are not taken")
	case strings.HasPrefix(lower, "application/cloudevents"):
		if err := json.Unmarshal(body, &e); err != nil {
			return nil, err
		}
	default:
		if err := fromHeaders(&e, r.Header, contentType, body); err != nil {
			return nil, err
		}
	}
	return &e, e.Validate()
}

func fromHeaders(e *event.Event, headers http.Header, contentType string, body []byte) error {
	fields := map[string]any{}
	for name := range headers {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "ce-") {
			value, err := url.PathUnescape(headers.Get(name))
			if err != nil {
				value = headers.Get(name)
			}
			fields[strings.TrimPrefix(lower, "ce-")] = value
		}
	}
	if _, ok := fields["specversion"]; !ok {
		return errors.New("no CloudEvent: the attribute specversion is missing")
	}
	if contentType != "" {
		fields["datacontenttype"] = contentType
	}
	document, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(document, e); err != nil {
		return err
	}
	e.DataEncoded = body
	return nil
}

func encode(w http.ResponseWriter, e *event.Event) error {
	if err := e.Validate(); err != nil {
		return err
	}
	data := e.Data()
	bare := e.Clone()
	bare.DataEncoded = nil
	document, err := json.Marshal(bare)
	if err != nil {
		return err
	}
	fields := map[string]any{}
	if err := json.Unmarshal(document, &fields); err != nil {
		return err
	}
	for name, value := range fields {
		switch name {
		case "data", "data_base64":
		case "datacontenttype":
			w.Header().Set("Content-Type", fmt.Sprint(value))
		default:
			w.Header().Set("Ce-"+name, strings.ReplaceAll(url.PathEscape(fmt.Sprint(value)), "%2F", "/"))
		}
	}
	_, err = w.Write(data)
	return err
}
