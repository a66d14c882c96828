package docpage

import (
	"fmt"
	"net/url"
	"strings"
)

// base stands for the address of the service in snippets; the script puts the page's own there.
const base = "http://127.0.0.1:8080"

// snippets shows how an operation is called.
func snippets(o operation) []snippet {
	target := base + exampleTarget(o)
	header := ""
	switch o.Auth {
	case "":
	case "oidc":
		header = "Authorization: Bearer $TOKEN"
	default:
		header = "X-Api-Key: $API_KEY"
	}
	if strings.HasSuffix(o.Path, "/tail") {
		return []snippet{{"curl", curl(o, target, header)}, {"JavaScript", fmt.Sprintf("const rows = new EventSource(%q);\nrows.addEventListener('row', (e) => console.log(JSON.parse(e.data)));", target)}}
	}
	return []snippet{
		{"curl", curl(o, target, header)}, {"Go", goText(o, target, header)},
		{"Python", python(o, target, header)}, {"JavaScript", javaScript(o, target, header)},
	}
}

// exampleTarget is the path with the examples of its parameters.
func exampleTarget(o operation) string {
	path := o.Path
	var query []string
	for _, p := range o.Parameters {
		switch {
		case p.In == "path" && p.Example != "":
			path = strings.ReplaceAll(path, "{"+p.Name+"}", escapeID(p.Example))
		case p.Example == "" || p.In != "query":
		case p.Name == "limit" || p.Name == "metric" || p.Name == "group_by":
			query = append(query, p.Name+"="+strings.NewReplacer("%2C", ",", "%3A", ":").Replace(url.QueryEscape(p.Example)))
		}
	}
	if strings.HasSuffix(path, "/aggregate") {
		query = append(query, "scan=allow")
	}
	if len(query) > 0 {
		path += "?" + strings.Join(query, "&")
	}
	return path
}

// escapeID leaves the commas and colons of a row id as they are: they are legal in a path.
func escapeID(id string) string {
	return strings.NewReplacer("%2C", ",", "%3A", ":", "+", "%20").Replace(url.PathEscape(id))
}

func curl(o operation, target, header string) string {
	var b strings.Builder
	b.WriteString("curl ")
	if strings.HasSuffix(o.Path, "/tail") {
		b.WriteString("-N ")
	}
	if header != "" {
		fmt.Fprintf(&b, "-H \"%s\" ", header)
	}
	if o.Body != nil {
		fmt.Fprintf(&b, "-H 'Content-Type: %s' \\\n  --data '%s' \\\n  ", o.Body.Kind, strings.ReplaceAll(compact(o.Body.Example), "'", `'\''`))
	}
	fmt.Fprintf(&b, "'%s'", target)
	return b.String()
}

// compact puts an indented example into one line.
func compact(example string) string {
	var parts []string
	for line := range strings.SplitSeq(example, "\n") {
		parts = append(parts, strings.TrimSpace(line))
	}
	return strings.ReplaceAll(strings.Join(parts, " "), "{ ", "{")
}

// split cuts a header line, and takes the value out of the environment by the given call.
func split(header, env string) (name, value string) {
	name, value, _ = strings.Cut(header, ": ")
	before, variable, _ := strings.Cut(value, "$")
	call := fmt.Sprintf(env, variable)
	if before != "" {
		return name, fmt.Sprintf("%q + %s", before, call)
	}
	return name, call
}

func goText(o operation, target, header string) string {
	var b strings.Builder
	body := "nil"
	if o.Body != nil {
		body = "strings.NewReader(`" + compact(o.Body.Example) + "`)"
	}
	fmt.Fprintf(&b, "req, err := http.NewRequestWithContext(ctx, %q,\n\t%q, %s)\nif err != nil {\n\treturn err\n}\n", o.Method, target, body)
	if header != "" {
		name, value := split(header, "os.Getenv(%q)")
		fmt.Fprintf(&b, "req.Header.Set(%q, %s)\n", name, value)
	}
	if o.Body != nil {
		fmt.Fprintf(&b, "req.Header.Set(\"Content-Type\", %q)\n", o.Body.Kind)
	}
	b.WriteString("resp, err := http.DefaultClient.Do(req)")
	return b.String()
}

func python(o operation, target, header string) string {
	args := []string{fmt.Sprintf("%q", target)}
	var headers []string
	if header != "" {
		name, value := split(header, "os.environ[%q]")
		headers = append(headers, fmt.Sprintf("%q: %s", name, value))
	}
	if o.Body != nil {
		headers = append(headers, fmt.Sprintf("\"Content-Type\": %q", o.Body.Kind))
		args = append(args, fmt.Sprintf("data=b'%s'", strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(compact(o.Body.Example))))
	}
	if len(headers) > 0 {
		args = append(args, "headers={"+strings.Join(headers, ", ")+"}")
	}
	return fmt.Sprintf("import json, urllib.request\n\nreq = urllib.request.Request(%s)\nwith urllib.request.urlopen(req, timeout=15) as resp:\n    print(json.load(resp))", strings.Join(args, ",\n    "))
}

func javaScript(o operation, target, header string) string {
	var opts []string
	if o.Method != "GET" {
		opts = append(opts, fmt.Sprintf("method: %q", o.Method))
	}
	var headers []string
	if header != "" {
		name, value := split(header, "process.env[%q]")
		headers = append(headers, fmt.Sprintf("%q: %s", name, value))
	}
	if o.Body != nil {
		headers = append(headers, fmt.Sprintf("\"Content-Type\": %q", o.Body.Kind))
	}
	if len(headers) > 0 {
		opts = append(opts, "headers: {"+strings.Join(headers, ", ")+"}")
	}
	if o.Body != nil {
		opts = append(opts, "body: JSON.stringify("+compact(o.Body.Example)+")")
	}
	call := fmt.Sprintf("%q", target)
	if len(opts) > 0 {
		call += ", {\n  " + strings.Join(opts, ",\n  ") + "\n}"
	}
	return "const resp = await fetch(" + call + ");\nconsole.log(resp.status, await resp.json());"
}
