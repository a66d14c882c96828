package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// TooLarge is the problem of a body beyond a limit of bytes.
func TooLarge(limit int64) *Problem {
	return NewProblem(BodyTooLarge, fmt.Sprintf("The body is larger than %d bytes.", limit), "Split it into several requests.")
}

// ReadBody reads a body of at most limit bytes into memory. A refusal closes the connection.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *Problem) {
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close")
		return nil, TooLarge(limit)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err == nil && int64(len(body)) <= limit {
		return body, nil
	}
	if errors.Is(err, context.Canceled) {
		return nil, NewProblem(ClientClosed, "The client went away.", "")
	}
	w.Header().Set("Connection", "close")
	var tooLarge *http.MaxBytesError
	var timeout net.Error
	switch {
	case err == nil:
		return nil, TooLarge(limit)
	case errors.As(err, &tooLarge):
		return nil, TooLarge(tooLarge.Limit)
	case errors.As(err, &timeout) && timeout.Timeout():
		return nil, NewProblem(RequestTimeout, "The body did not arrive in time.", "")
	}
	return nil, NewProblem(BadRequest, "The body ended early or is not framed as HTTP asks.", "")
}
