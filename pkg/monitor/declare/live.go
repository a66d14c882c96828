package declare

// Live is an object as Datadog has it.
type Live struct {
	Kind Kind
	// ID is the number of a monitor, or the id of an SLO or a dashboard. Of a metric it is its name.
	ID string
	// Payload is the whole object in JSON's types.
	Payload map[string]any
	// Modified changes with each change of the object: a time, or a number of seconds.
	Modified string
}
