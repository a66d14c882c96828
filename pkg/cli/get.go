package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/dataset"
)

// getOptions are the flags of get.
type getOptions struct {
	limit   int
	explain bool
	api     apiOptions
}

func getCmd(a *app) *cobra.Command {
	var o getOptions
	cmd := &cobra.Command{
		Use: "get DATASET [FIELD=VALUE]...", GroupID: groupData,
		Short: "Read rows through the HTTP API",
		Long: `get lists rows. FIELD=VALUE, FIELD[gte]=VALUE and the other operators filter by the key or an
index from its first field on; from=, to=, order=, fields=, index= and scan=allow work as in
the HTTP API. --explain shows how the rows would be found instead of the rows.`,
		Example: `  latamctl get flights --limit 5
  latamctl get flights origin=SFO 'departed_at[gte]=2001-01-02'
  latamctl get flights origin=SFO order=desc fields=destination,delay_minutes -o json`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: getArgs(a),
		RunE:              a.run(settings, func(ctx context.Context, args []string) error { return a.runGet(ctx, args, o) }),
	}
	f := cmd.Flags()
	f.IntVar(&o.limit, "limit", 20, "most rows; 0 is all")
	f.BoolVar(&o.explain, "explain", false, "show how the rows would be found")
	addAPIFlags(cmd, &o.api)
	config.MarkInvocation(f, "limit", "explain")
	return cmd
}

// getArgs completes datasets first and then their fields.
func getArgs(a *app) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	datasets := datasetArg(a)
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return datasets(cmd, args, word)
		}
		decl, err := a.readDeclaration()
		if err != nil || decl.Dataset(args[0]) == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var fields []string
		for _, name := range decl.Dataset(args[0]).FieldNames() {
			fields = append(fields, name+"=")
		}
		return fields, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// page is one answer of the API's list.
type page struct {
	Data       []json.RawMessage `json:"data"`
	NextCursor *string           `json:"next_cursor"`
}

// filterArgs reads the arguments FIELD=VALUE of a command.
func filterArgs(command string, args []string) (url.Values, error) {
	query := url.Values{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, failf(exitUsage, "usage: latamctl "+command+" DATASET FIELD=VALUE", "argument %q is not FIELD=VALUE", arg)
		}
		query.Add(key, value)
	}
	return query, nil
}

// maxPage is the largest page the API gives.
const maxPage = 1000

func (a *app) runGet(ctx context.Context, args []string, o getOptions) error {
	ds, err := a.dataset(args[0])
	if err != nil {
		return err
	}
	query, err := filterArgs("get", args[1:])
	if err != nil {
		return err
	}
	api, err := a.api(ctx, o.api)
	if err != nil {
		return err
	}
	list := api.base + "/v1/datasets/" + url.PathEscape(ds.Name) + "/rows?"
	if o.explain {
		return a.explainGet(ctx, api.http, list, query)
	}
	rows := a.rowWriter(ds, query.Get("fields"))
	left := o.limit
	for more := true; more; {
		limit := maxPage
		if o.limit > 0 {
			limit = min(left, maxPage)
		}
		query.Set("limit", strconv.Itoa(limit))
		var p page
		if err := a.fetchWith(ctx, api.http, list+query.Encode(), &p); err != nil {
			return errors.Join(rows.end(), err)
		}
		if err := rows.write(p.Data); err != nil {
			return err
		}
		left -= len(p.Data)
		more = p.NextCursor != nil && (o.limit == 0 || left > 0)
		if more {
			query.Set("cursor", *p.NextCursor)
		}
	}
	return rows.end()
}

// explanation is the API's answer to explain=true.
type explanation struct {
	Schema     string        `json:"schema"`
	Plan       *explainedWay `json:"plan"`
	Order      string        `json:"order"`
	Columns    []string      `json:"columns"`
	RowsToRead struct {
		Value    int    `json:"value"`
		Relation string `json:"relation"`
	} `json:"rows_to_read"`
	Refused *struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
		Hint   string `json:"hint"`
	} `json:"refused,omitempty"`
	Considered []explainedWay `json:"considered"`
}

type explainedWay struct {
	Access string `json:"access"`
	Note   string `json:"note"`
}

func (a *app) explainGet(ctx context.Context, client *http.Client, list string, query url.Values) error {
	query.Set("explain", "true")
	var e explanation
	if err := a.fetchWith(ctx, client, list+query.Encode(), &e); err != nil {
		return err
	}
	if a.global.output == outputJSON {
		e.Schema = "latamctl.get-explain/v1"
		return json.NewEncoder(a.proc.Out).Encode(e)
	}
	switch {
	case e.Refused != nil:
		fmt.Fprintf(a.proc.Out, "refused: %s: %s\n%s\n", e.Refused.Code, e.Refused.Detail, e.Refused.Hint)
	case e.Plan != nil:
		atLeast := ""
		if e.RowsToRead.Relation == "gte" {
			atLeast = "at least "
		}
		fmt.Fprintf(a.proc.Out, "read by %s, %s, %s%d rows\n", e.Plan.Access, e.Order, atLeast, e.RowsToRead.Value)
	}
	w := tabwriter.NewWriter(a.proc.Out, 0, 0, 2, ' ', 0)
	for _, way := range e.Considered {
		fmt.Fprintf(w, "  %s\t%s\n", way.Access, way.Note)
	}
	return w.Flush()
}

// apiURL is the base of the API: the flag's, or the running stack's.
func (a *app) apiURL(ctx context.Context, flag, dataDir string) (string, error) {
	if flag != "" {
		if u, err := url.Parse(flag); err != nil || u.Scheme == "" || u.Host == "" {
			return "", failf(exitUsage, "write it like https://api.example.com", "%q is not a URL", flag)
		}
		return strings.TrimRight(flag, "/"), nil
	}
	s, err := a.liveStack(ctx, dataDir)
	if err != nil {
		return "", err
	}
	return s.API, nil
}

const (
	fetchTimeout  = 30 * time.Second
	maxAnswerByte = 64 << 20
)

// fetch reads a JSON answer; an answer with an error becomes an error with the API's own hint.
func (a *app) fetch(ctx context.Context, address string, into any) error {
	return a.fetchWith(ctx, &http.Client{}, address, into)
}

// fetchWith is fetch with a client that may bring credentials.
func (a *app) fetchWith(ctx context.Context, client *http.Client, address string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fail(exitUsage, "", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fail(exitUnavailable, "check that the API runs: latamctl up, or --url", fmt.Errorf("ask the API: %w", err))
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerByte))
	if err != nil {
		return fail(exitUnavailable, "", fmt.Errorf("read the API's answer: %w", err))
	}
	if resp.StatusCode != http.StatusOK {
		return apiFault(resp.StatusCode, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return failf(exitFailed, "check --url", "read the API's answer: it is not what latamctl serve sends: %w", err)
	}
	return nil
}

// apiFault turns a problem document into an error.
func apiFault(status int, body []byte) error {
	var problem struct {
		Title, Code, Detail, Hint string
	}
	_ = json.Unmarshal(body, &problem) // A proxy's answer has no problem document; the status must do.
	if problem.Detail == "" {
		problem.Detail = problem.Title
	}
	code := exitFailed
	switch status {
	case http.StatusBadRequest:
		code = exitUsage
	case http.StatusUnauthorized, http.StatusForbidden:
		code = exitDenied
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		code = exitUnavailable
	case http.StatusGatewayTimeout:
		code = exitTimeout
	}
	return failf(code, problem.Hint, "the API answered %d %s: %s", status, problem.Code, problem.Detail)
}

// rowWriter prints rows as they come.
type rowWriter interface {
	write(rows []json.RawMessage) error
	end() error
}

func (a *app) rowWriter(ds *dataset.Dataset, fields string) rowWriter {
	if a.global.output == outputJSON {
		return &jsonRows{out: a.proc.Out, dataset: ds.Name}
	}
	columns := ds.FieldNames()
	if fields != "" {
		columns = strings.Split(fields, ",")
	}
	return &tableRows{out: tabwriter.NewWriter(a.proc.Out, 0, 0, 2, ' ', 0), columns: columns}
}

// jsonRows prints one document, row by row, so that all rows never have to fit in memory.
type jsonRows struct {
	out     io.Writer
	dataset string
	rows    int
}

func (j *jsonRows) write(rows []json.RawMessage) error {
	for _, row := range rows {
		lead := ","
		if j.rows == 0 {
			lead = fmt.Sprintf(`{"schema":"latamctl.get/v1","dataset":%q,"rows":[`, j.dataset)
		}
		j.rows++
		if _, err := fmt.Fprintf(j.out, "%s%s", lead, row); err != nil {
			return err
		}
	}
	return nil
}

func (j *jsonRows) end() error {
	if j.rows == 0 {
		_, err := fmt.Fprintf(j.out, `{"schema":"latamctl.get/v1","dataset":%q,"rows":[]}`+"\n", j.dataset)
		return err
	}
	_, err := fmt.Fprintln(j.out, "]}")
	return err
}

// tableRows prints aligned columns.
type tableRows struct {
	out     *tabwriter.Writer
	columns []string
	started bool
}

func (t *tableRows) write(rows []json.RawMessage) error {
	if !t.started {
		t.started = true
		fmt.Fprintln(t.out, strings.ToUpper(strings.Join(t.columns, "\t")))
	}
	for _, raw := range rows {
		var row map[string]json.RawMessage
		if err := json.Unmarshal(raw, &row); err != nil {
			return fmt.Errorf("read a row: %w", err)
		}
		cells := make([]string, len(t.columns))
		for i, column := range t.columns {
			cells[i] = cellText(row[column])
		}
		fmt.Fprintln(t.out, strings.Join(cells, "\t"))
	}
	return nil
}

// cellText is a JSON value on one line of a table, control characters kept out of the terminal.
func cellText(v json.RawMessage) string {
	var s string
	if err := json.Unmarshal(v, &s); err != nil {
		s = string(v)
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '·'
		}
		return r
	}, s)
}

func (t *tableRows) end() error { return t.out.Flush() }
