package declare

import "regexp"

// formatVersion is the version of the files that Load reads.
const formatVersion = 1

// Lengths are checked apart: a bound in a pattern makes it large, and these are made whenever the program starts.
var (
	objectName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	wordName   = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	metricName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_.]*$`)
	windowText = regexp.MustCompile(`^last_[1-9][0-9]*[mhdw]$`)
	tagText    = regexp.MustCompile(`^[a-z][a-z0-9_:./-]*$`)
	teamTag    = regexp.MustCompile(`^team:[a-z0-9_./-]+$`)
	address    = regexp.MustCompile(`^[^\s]+/[^\s]+$`)
)

// maxItems is how many entries a list has at most, those of for_each aside.
const maxItems = 100

// dashboardColumns is how wide a dashboard is.
const dashboardColumns = 12

// timeframes are what an SLO of Datadog can run over.
func timeframes() []string { return []string{"7d", "30d", "90d"} }

// events are the events of a monitor in the order of its message.
func events() []Event { return []Event{OnAlert, OnWarning, OnNoData, OnRenotify, OnRecovery} }

// The shapes of simple values.

func textShape(doc string) *shape    { return &shape{form: text, doc: doc} }
func numberShape(doc string) *shape  { return &shape{form: num, doc: doc} }
func booleanShape(doc string) *shape { return &shape{form: boolean, doc: doc} }
func anyShape() *shape               { return &shape{form: anything} }

func choiceShape(doc string, choices ...string) *shape {
	return &shape{form: text, doc: doc, choices: choices}
}

func patternShape(doc string, pattern *regexp.Regexp, like string) *shape {
	return &shape{form: text, doc: doc, pattern: pattern, like: like}
}

func rangeShape(f form, doc string, lowest float64, highest ...float64) *shape {
	s := &shape{form: f, doc: doc, min: &lowest}
	if len(highest) > 0 {
		s.max = &highest[0]
	}
	return s
}

func listShape(doc string, of *shape) *shape {
	return &shape{form: list, doc: doc, of: of, most: maxItems}
}

func tableShape(doc string, names *regexp.Regexp, like string, of *shape) *shape {
	return &shape{form: table, doc: doc, names: names, like: like, of: of}
}

func nounShape(noun string, keys ...key) *shape {
	return &shape{form: record, noun: noun, doc: "A " + noun + ".", keys: keys}
}

func recordShape(doc string, keys ...key) *shape { return &shape{form: record, doc: doc, keys: keys} }

func eitherShape(doc string, either ...*shape) *shape {
	return &shape{form: union, doc: doc, either: either}
}

// oneOrMore is a text, or a list of them.
func oneOrMore(doc string) *shape {
	return eitherShape(doc, textShape(""), listShape("", textShape("")))
}

// literal marks what is taken as it is, without ${}.
func literal(s *shape) *shape {
	s.fixed = true
	return s
}

func optional(name string, s *shape) key { return key{name: name, shape: s} }
func needed(name string, s *shape) key   { return key{name: name, shape: s, needed: true} }

// fileShape is a whole file.
func fileShape() *shape {
	monitors := objectsShape("Monitors by name.", monitorShape())
	slos := objectsShape("Service level objectives by name.", sloShape())
	return recordShape("Monitors, SLOs and dashboards of latamctl.",
		needed("version", literal(rangeShape(integer, `write "version: 1"`, formatVersion, formatVersion))),
		optional("tags", literal(tagsShape("Tags of all monitors and SLOs of this file."))),
		optional("values", tableShape("Constants, used as ${name}.", wordName, "max_backlog", anyShape())),
		optional("notify", literal(tableShape("Roles that are told, by name.", wordName, "page", roleShape()))),
		optional("metrics", literal(tableShape("Metrics of your own that queries may read.", metricName, "shop.orders", metricShape()))),
		optional("profiles", tableShape("Options of monitors under a name.", wordName, "gcp", profileShape())),
		optional("templates", tableShape("Groups of objects with parameters.", wordName, "workload", nounShape("template",
			optional("params", tableShape("Parameters with their defaults; null must be given.", wordName, "workload", anyShape())),
			optional("monitors", monitors), optional("slos", slos)))),
		optional("use", objectsShape("Templates in use, by the name that is put before those of their objects.", nounShape("use",
			needed("template", textShape("name the template")),
			optional("with", tableShape("Its parameters.", wordName, "workload", anyShape()))))),
		optional("monitors", monitors),
		optional("slos", slos),
		optional("dashboards", objectsShape("Dashboards by name.", dashboardShape())),
	)
}

func objectsShape(doc string, of *shape) *shape {
	return tableShape(doc, objectName, "ingest-errors", of)
}

func tagsShape(doc string) *shape {
	return listShape(doc, patternShape("A tag in lower case.", tagText, "team:data"))
}

func roleShape() *shape {
	return nounShape("role",
		optional("pages", booleanShape("Whether it wakes somebody up.")),
		optional("description", textShape("Who that is.")))
}

func metricShape() *shape {
	return nounShape("metric",
		needed("type", choiceShape("one of count, gauge, rate, distribution", "count", "gauge", "rate", "distribution")),
		optional("tags", listShape("The tags that it carries, env and service aside.", textShape(""))),
		optional("bounds", listShape("The bucket bounds of a distribution.", numberShape(""))),
		optional("unit", textShape("Its unit, such as s.")))
}

func profileShape() *shape {
	s := optionsShape("A profile: options of monitors under a name.")
	s.noun = "profile"
	s.keys = append([]key{optional("extends", textShape("Another profile, whose options this one changes."))}, s.keys...)
	return s
}

// optionsShape are the options of a monitor that can be declared. Mutes are not among them: they belong to who is on call.
func optionsShape(doc string) *shape {
	seconds := func(doc string, highest float64) *shape { return rangeShape(integer, doc, 0, highest) }
	return recordShape(doc,
		optional("include_tags", booleanShape("Whether the title names the group.")),
		optional("require_full_window", booleanShape("Whether a window with gaps is left out.")),
		optional("notify_audit", booleanShape("Whether changes of the monitor are told.")),
		optional("notify_no_data", booleanShape("Whether missing data is told; on_missing_data is the newer way.")),
		optional("no_data_timeframe", rangeShape(integer, "Minutes without data until it is told.", 1)),
		optional("on_missing_data", choiceShape("What a window without data means.", "default", "show_no_data", "show_and_notify_no_data", "resolve")),
		optional("timeout_h", rangeShape(integer, "Hours after which an alert without data resolves, at most 24.", 0)),
		optional("new_group_delay", seconds("Seconds until a new group is looked at.", 172800)),
		optional("new_host_delay", seconds("Seconds until a new host is looked at; new_group_delay is the newer way.", 172800)),
		optional("evaluation_delay", seconds("Seconds that data may be late.", 86400)),
		optional("renotify_interval", rangeShape(integer, "Minutes until it is told again, 0 for never.", 0)),
		optional("renotify_occurrences", rangeShape(integer, "How often it is told again.", 1)),
		optional("renotify_statuses", listShape("In which states it is told again.", &shape{
			form: text, choices: []string{"alert", "warn", "no data"}, instead: map[string]string{"warning": "write warn", "no_data": `write "no data"`},
		})),
		optional("notify_by", listShape("The tags by which it is told, of those that the query groups by.", textShape(""))),
		optional("notification_preset_name", choiceShape("What is added to the text.", "show_all", "hide_query", "hide_handles", "hide_all", "hide_query_and_handles", "show_only_snapshot", "hide_handles_and_footer")),
		optional("group_retention_duration", textShape("How long groups without data are kept.")),
		optional("enable_logs_sample", booleanShape("Whether a sample of the logs is sent.")),
	)
}

// monitorTypes are the types of monitors that can be declared.
func monitorTypes() []string {
	return []string{"query alert", "service check", "composite", "slo alert", "log alert", "event-v2 alert", "process alert",
		"rum alert", "trace-analytics alert"}
}

func monitorShape() *shape {
	return nounShape("monitor",
		optional("for_each", forEachShape()),
		optional("extends", textShape("Another monitor, of which everything is taken that is not said here.")),
		needed("title", titleShape("say in one line what is wrong when it alerts")),
		optional("type", typeShape()),
		optional("priority", rangeShape(integer, "1 (highest) to 5.", 1, 5)),
		optional("profile", oneOrMore("Profiles whose options it has; later ones win.")),
		needed("query", textShape("write the query, with ${critical} for its threshold")),
		optional("thresholds", recordShape("Thresholds.",
			optional("critical", numberShape("When it alerts.")), optional("warning", numberShape("When it warns.")),
			optional("critical_recovery", numberShape("When an alert ends.")), optional("warning_recovery", numberShape("When a warning ends.")),
			optional("ok", numberShape("How many good checks end an alert of a service check.")))),
		optional("threshold_windows", recordShape("Windows of an anomaly.",
			needed("trigger_window", patternShape("write the window that has to be bad", windowText, "last_15m")),
			needed("recovery_window", patternShape("write the window that has to be good", windowText, "last_15m")))),
		optional("options", optionsShape("Options that no profile gives.")),
		optional("notify", notifyShape()),
		optional("message", eitherShape("What is said of what. A verbatim monitor may have one text, which is sent as it is.", messageShape(), textShape(""))),
		optional("tags", tagsShape("Tags, besides those of the file.")),
		optional("verbatim", verbatimShape()),
		optional("enabled", enabledShape()),
	)
}

func typeShape() *shape {
	s := choiceShape("The type; query alert unless said otherwise.", monitorTypes()...)
	s.instead = map[string]string{
		"metric alert":     "write query alert, which Datadog makes of it anyway",
		"event alert":      "write event-v2 alert, which took its place",
		"synthetics alert": "a synthetic test makes its monitor itself",
	}
	return s
}

func titleShape(doc string) *shape { return textShape(doc) }

func enabledShape() *shape {
	return eitherShape("Whether it is made. A text counts as false when it is empty, so that \"${gateway}\" asks for a gateway.", booleanShape(""), textShape(""))
}

func forEachShape() *shape {
	return eitherShape("One object for each of these: the word datasets, a list or a map.",
		choiceShape("", "datasets"), &shape{form: list, of: anyShape()}, &shape{form: table, of: anyShape()})
}

func notifyShape() *shape {
	var keys []key
	for _, e := range events() {
		keys = append(keys, optional(string(e), oneOrMore("Roles, or handles that begin with @.")))
	}
	return recordShape("Who is told of what.", keys...)
}

func messageShape() *shape {
	var keys []key
	for _, e := range events() {
		keys = append(keys, optional(string(e), textShape("What is said.")))
	}
	keys = append(keys, optional("runbook", eitherShape("true for the page of this monitor among the runbooks, or an address.", booleanShape(""), patternShape("", address, "https://example.com/runbook"))))
	return recordShape("What is said of what.", keys...)
}

func percentShape(doc string) *shape { return rangeShape(num, doc, 0, 100) }

func sloShape() *shape {
	var targets []key
	for _, t := range timeframes() {
		targets = append(targets, optional(t, percentShape("The target in percent.")))
	}
	return nounShape("slo",
		optional("for_each", forEachShape()),
		needed("title", titleShape("say in one line what is promised")),
		optional("description", textShape("More about it.")),
		optional("latency", recordShape("The share of values of a distribution that are at most threshold.",
			needed("metric", textShape("name the distribution")),
			needed("threshold", numberShape("give the bound in seconds, one of the metric's bucket bounds")),
			optional("filter", textShape("What counts, such as env:prod,service:latam-serve.")))),
		optional("ratio", recordShape("The share of good events.",
			needed("good", textShape("write the series of good events")), needed("bad", textShape("write the series of bad events")))),
		optional("slices", recordShape("The share of slices of time that are good.",
			needed("query", textShape("write the series that is compared")),
			needed("op", choiceShape("one of <, <=, >, >=", "<", "<=", ">", ">=")),
			needed("bound", numberShape("give the number that it is compared with")),
			needed("seconds", rangeShape(integer, "60 or 300", 60, 300)))),
		needed("targets", recordShape("write targets such as {30d: 95, 90d: 95}", targets...)),
		optional("warning", percentShape("A share, above the target, below which it is shown as a warning.")),
		optional("yearly", percentShape("What latamctl slo report wants over a year.")),
		needed("no_data", textShape("name the monitor that tells when there is nothing to count")),
		optional("alerts", eitherShape("standard, none, or a list of tiers.", choiceShape("", "standard", "none"), listShape("", choiceShape("", tierNames()...)))),
		optional("notify", recordShape("Who is told by its alerts.",
			optional("page", oneOrMore("Of what burns fast.")), optional("ticket", oneOrMore("Of what burns slowly.")))),
		optional("tags", tagsShape("Tags, besides those of the file.")),
		optional("verbatim", verbatimShape()),
		optional("enabled", enabledShape()),
	)
}

// verbatimShape is for objects that were made elsewhere and are to stay as they are.
func verbatimShape() *shape {
	return booleanShape("Whether title and tags stay as they are: without the environment, and without the tags of the file.")
}

func dashboardShape() *shape {
	which := func(doc string) *shape {
		return eitherShape(doc, textShape(""), listShape("", textShape("")))
	}
	widget := recordShape("A widget. It has one of slo, monitor, query and note.",
		optional("title", textShape("Its title.")),
		optional("slo", textShape("The name of an SLO.")),
		optional("monitor", textShape("The name of a monitor.")),
		optional("query", textShape("What is shown.")),
		optional("note", textShape("A text in Markdown.")),
		optional("as", choiceShape("How a query is shown; timeseries unless said otherwise.", "timeseries", "value", "toplist")),
		optional("unit", textShape("The unit behind a value.")),
	)
	return nounShape("dashboard",
		optional("for_each", forEachShape()),
		needed("title", titleShape("give it a title")),
		optional("description", textShape("What it is for.")),
		needed("groups", listShape("list its groups", recordShape("A group of widgets.",
			needed("title", textShape("give the group a title")),
			optional("width", rangeShape(integer, "Its width of 12 columns; 12 unless said otherwise.", 1, dashboardColumns)),
			optional("widgets", listShape("Its widgets.", widget)),
			optional("slos", which("One widget for each SLO: all, dataset, or a list of names.")),
			optional("monitors", which("One widget for each monitor: dataset, or a list of names.")),
		))),
		optional("tags", listShape("Tags; only those of a team are allowed on dashboards.", patternShape("", teamTag, "team:data"))),
		optional("enabled", enabledShape()),
	)
}
