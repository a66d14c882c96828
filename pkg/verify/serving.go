package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// Serving proves that one instance of the API works, from beside the way that users take: it is healthy,
// serves the declared datasets and their contract, and answers for rows, or asks for credentials where
// it should not answer without. It publishes nothing. The error names each check that failed; open says
// that rows of all datasets were answered.
func Serving(ctx context.Context, client *http.Client, baseURL string, datasets []*dataset.Dataset) (open bool, err error) {
	s := &serving{client: client, base: baseURL}
	errs := []error{s.ok(ctx, "/healthz", nil)}
	var listed struct {
		Data []named `json:"data"`
	}
	var document struct {
		Paths map[string]json.RawMessage `json:"paths"`
	}
	errs = append(errs, s.ok(ctx, "/v1/datasets", &listed), s.ok(ctx, "/openapi.json", &document))
	for _, ds := range datasets {
		path := "/v1/datasets/" + ds.Name
		if errs[1] == nil && !slices.ContainsFunc(listed.Data, func(d named) bool { return d.Name == ds.Name }) {
			errs = append(errs, fmt.Errorf("GET /v1/datasets does not list %s, which is declared", ds.Name))
		}
		if _, found := document.Paths[path+"/rows"]; errs[2] == nil && !found {
			errs = append(errs, fmt.Errorf("GET /openapi.json does not describe %s/rows", path))
		}
		errs = append(errs, s.ok(ctx, path+"/schema", nil), s.rows(ctx, path+"/rows?limit=1"))
	}
	err = errors.Join(errs...)
	return err == nil && !s.refused, err
}

type named struct {
	Name string `json:"name"`
}

type serving struct {
	client  *http.Client
	base    string
	refused bool // rows were asked for, and credentials came back
}

func (s *serving) get(ctx context.Context, path string) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+path, nil)
	if err != nil {
		return 0, nil, nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, nil, nil, fmt.Errorf("GET %s: no answer: %w", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxServedBytes))
	if err != nil {
		return 0, nil, nil, fmt.Errorf("GET %s: answer cut: %w", path, err)
	}
	return resp.StatusCode, resp.Header, body, nil
}

// maxServedBytes bounds one answer; the contract of many datasets is long.
const maxServedBytes = 16 << 20

// ok wants 200, and JSON when into is not nil.
func (s *serving) ok(ctx context.Context, path string, into any) error {
	status, _, body, err := s.get(ctx, path)
	switch {
	case err != nil:
		return err
	case status != http.StatusOK:
		return fmt.Errorf("GET %s answers %d, want 200%s", path, status, detail(body))
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("GET %s answers what is not the expected JSON: %w", path, err)
	}
	return nil
}

// rows wants a page, or to be asked who we are.
func (s *serving) rows(ctx context.Context, path string) error {
	status, header, body, err := s.get(ctx, path)
	switch {
	case err != nil:
		return err
	case status == http.StatusOK:
		return nil
	case status == http.StatusUnauthorized && strings.HasPrefix(header.Get("Content-Type"), "application/problem+json"):
		s.refused = true
		return nil
	}
	return fmt.Errorf("GET %s answers %d, want 200, or 401 with a problem document%s", path, status, detail(body))
}

// detail is what a problem document says.
func detail(body []byte) string {
	var problem struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}
	if json.Unmarshal(body, &problem) != nil || problem.Code == "" {
		return ""
	}
	return fmt.Sprintf(" (%s: %s)", problem.Code, problem.Detail)
}
