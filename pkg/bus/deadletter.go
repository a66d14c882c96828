package bus

// AttrPrefix begins every attribute that latamctl adds to a dead letter.
const AttrPrefix = "latam."

// The attributes that a dead letter carries besides those of the original message.
const (
	AttrStage        = AttrPrefix + "stage"        // decode or commit
	AttrReason       = AttrPrefix + "reason"       // one of dataset's reasons, or refused_by_store
	AttrError        = AttrPrefix + "error"        // the whole message for a person
	AttrField        = AttrPrefix + "field"        // the field at fault, when there is one
	AttrDataset      = AttrPrefix + "dataset"      // the dataset
	AttrSubscription = AttrPrefix + "subscription" // where the record came from
	AttrMessageID    = AttrPrefix + "message_id"   // the original message's id
	AttrPublishTime  = AttrPrefix + "publish_time" // the original message's publish time, RFC 3339
	AttrDataBytes    = AttrPrefix + "data_bytes"   // the original payload's size, when it had to be cut to fit
	AttrAttempt      = AttrPrefix + "attempt"      // the delivery attempt, when the subscription counts them
	AttrSchema       = AttrPrefix + "schema"       // the schema of the payload, name@revision, when its topic has one
	AttrEncoding     = AttrPrefix + "encoding"     // JSON or BINARY, how the schema's message is written
)
