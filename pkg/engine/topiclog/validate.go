package topiclog

import (
	"encoding/base64"
	"errors"
	"fmt"
	"sort"
	"strings"
	"syscall"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Limits and defaults of the real service.
const (
	maxMessageBytes    = 10_000_000
	maxPublishBytes    = 10_000_000
	maxPublishMessages = 1000
	maxAttributes      = 100
	maxKeyBytes        = 256
	maxValueBytes      = 1024
	maxOrderingBytes   = 1024
	maxAckIDs          = 100_000 // bounded by the request size in the service
	maxPullMessages    = 1000
	maxPageSize        = 1000

	defaultAckDeadline = 10 * time.Second
	maxAckDeadline     = 600 * time.Second
	minRetention       = 10 * time.Minute
	maxRetention       = 31 * 24 * time.Hour
	defaultRetention   = 7 * 24 * time.Hour
	defaultMinBackoff  = 10 * time.Second
	defaultMaxBackoff  = 600 * time.Second
	defaultAttempts    = 5
	snapshotLife       = 7 * 24 * time.Hour
	minSnapshotLife    = time.Hour
	deletedTopic       = "_deleted-topic_"
)

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

func unimplemented(what string) error {
	return status.Errorf(codes.Unimplemented, "the local Pub/Sub server does not do %s", what)
}

func notFound(name string) error {
	return status.Errorf(codes.NotFound, "Resource not found (resource=%s).", name)
}

func alreadyExists(name string) error {
	return status.Errorf(codes.AlreadyExists, "Resource already exists in the project (resource=%s).", name)
}

// storageStatus turns a failed write or read into what a client should see.
func storageStatus(err error) error {
	var damaged *CorruptError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return status.Errorf(codes.ResourceExhausted, "the disk of the log is full: %v", err)
	case errors.As(err, &damaged):
		return status.Errorf(codes.DataLoss, "%v", err)
	case status.Code(err) != codes.Unknown:
		return err
	}
	return status.Errorf(codes.Unavailable, "%v", err)
}

// checkName checks projects/{project}/{kind}/{id}.
func checkName(name, kind string) error {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "projects" || parts[1] == "" || parts[2] != kind {
		return invalid("Invalid resource name given (name=%s): want projects/{project}/%s/{id}.", name, kind)
	}
	if len(name) > 1024 || !goodID(parts[3]) {
		return invalid("Invalid resource name given (name=%s): the id has 3 to 255 letters, digits and -_.~+%%, starts with a letter and not with \"goog\".", name)
	}
	return nil
}

func goodID(id string) bool {
	if len(id) < 3 || len(id) > 255 || strings.HasPrefix(strings.ToLower(id), "goog") {
		return false
	}
	for i := 0; i < len(id); i++ {
		c := id[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if i == 0 && !letter {
			return false
		}
		if !letter && (c < '0' || c > '9') && strings.IndexByte("-_.~+%", c) < 0 {
			return false
		}
	}
	return true
}

// checkProject checks projects/{project} and returns the prefix of its names.
func checkProject(project, kind string) (string, error) {
	id, ok := strings.CutPrefix(project, "projects/")
	if !ok || id == "" || strings.Contains(id, "/") {
		return "", invalid("Invalid project name given (name=%s): want projects/{project}.", project)
	}
	return project + "/" + kind + "/", nil
}

func checkRetention(d *durationpb.Duration) error {
	if d == nil {
		return nil
	}
	if err := d.CheckValid(); err != nil {
		return invalid("message_retention_duration: %v", err)
	}
	if r := d.AsDuration(); r < minRetention || r > maxRetention {
		return invalid("message_retention_duration is %v, want %v to %v.", r, minRetention, maxRetention)
	}
	return nil
}

func checkDeadline(seconds int32, low int32) error {
	if seconds != 0 && seconds < low || seconds < 0 || seconds > int32(maxAckDeadline/time.Second) {
		return invalid("Invalid ack deadline given (ack_deadline_seconds=%d): want %d to 600 seconds.", seconds, low)
	}
	return nil
}

// checkMessages enforces the limits of a Publish request.
func checkMessages(msgs []*pubsubpb.PubsubMessage) error {
	if len(msgs) == 0 {
		return invalid("A publish request must contain at least one message.")
	}
	if len(msgs) > maxPublishMessages {
		return invalid("The publish request has %d messages, the limit is %d.", len(msgs), maxPublishMessages)
	}
	total := 0
	for i, m := range msgs {
		n, err := checkMessage(m)
		if err != nil {
			return invalid("Message %d: %v", i, err)
		}
		if m.GetOrderingKey() != msgs[0].GetOrderingKey() {
			return invalid("In a single publish request, all messages must have no ordering key or they must all have the same ordering key.")
		}
		total += n
	}
	if total > maxPublishBytes {
		return invalid("The publish request has %d bytes, the limit is %d.", total, maxPublishBytes)
	}
	return nil
}

// checkMessage returns the size of a message that is within the limits.
func checkMessage(m *pubsubpb.PubsubMessage) (int, error) {
	if len(m.GetData()) == 0 && len(m.GetAttributes()) == 0 {
		return 0, fmt.Errorf("some messages in the batch are empty: each must have data or an attribute")
	}
	if n := len(m.GetAttributes()); n > maxAttributes {
		return 0, fmt.Errorf("it has %d attributes, the limit is %d", n, maxAttributes)
	}
	n := len(m.GetData()) + len(m.GetOrderingKey())
	for k, v := range m.GetAttributes() {
		if err := checkAttribute(k, v); err != nil {
			return 0, err
		}
		n += len(k) + len(v)
	}
	if len(m.GetOrderingKey()) > maxOrderingBytes {
		return 0, fmt.Errorf("its ordering key has %d bytes, the limit is %d", len(m.GetOrderingKey()), maxOrderingBytes)
	}
	if n > maxMessageBytes {
		return 0, fmt.Errorf("it has %d bytes, the limit is %d", n, maxMessageBytes)
	}
	return n, nil
}

func checkAttribute(k, v string) error {
	switch {
	case k == "":
		return fmt.Errorf("an attribute key is empty")
	case len(k) > maxKeyBytes:
		return fmt.Errorf("an attribute key has %d bytes, the limit is %d", len(k), maxKeyBytes)
	case len(v) > maxValueBytes:
		return fmt.Errorf("the attribute %q has a value of %d bytes, the limit is %d", k, len(v), maxValueBytes)
	case strings.HasPrefix(k, "goog") && !strings.HasPrefix(k, "googclient_"):
		return fmt.Errorf("the attribute key %q begins with the reserved \"goog\"", k)
	}
	return nil
}

// parseAckIDs decodes the ids of one request.
func parseAckIDs(ids []string) ([]ackRef, error) {
	if len(ids) > maxAckIDs {
		return nil, invalid("The request has %d ack ids, the limit is %d.", len(ids), maxAckIDs)
	}
	refs := make([]ackRef, len(ids))
	for i, id := range ids {
		r, ok := parseAckID(id)
		if !ok {
			return nil, invalid("You have passed an invalid ack ID to the service (ack_id=%.80q).", id)
		}
		refs[i] = r
	}
	return refs, nil
}

// page returns one page of names and the token of the next. A token names the
// last item shown, so it stays good when items come and go.
func page(names []string, size int32, token string) ([]string, string, error) {
	if size < 0 {
		return nil, "", invalid("The page size %d is negative.", size)
	}
	if size == 0 || size > maxPageSize {
		size = maxPageSize
	}
	after, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return nil, "", invalid("The page token %.80q was not issued by this server.", token)
	}
	sort.Strings(names)
	names = names[sort.Search(len(names), func(i int) bool { return names[i] > string(after) }):]
	if len(names) <= int(size) {
		return names, "", nil
	}
	names = names[:size]
	return names, base64.RawURLEncoding.EncodeToString([]byte(names[size-1])), nil
}

// keysWithPrefix lists the resources of a project.
func keysWithPrefix[V any](m map[string]V, prefix string) []string {
	var names []string
	for n := range m {
		if strings.HasPrefix(n, prefix) {
			names = append(names, n)
		}
	}
	return names
}
