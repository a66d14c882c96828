package auth

// reason says why a caller is refused, for the log and the metric; the caller never sees it.
type reason string

func (r reason) Error() string { return string(r) }

const (
	reasonMissing     reason = "missing"      // no credentials
	reasonTwice       reason = "twice"        // several credentials
	reasonTooLong     reason = "too_long"     // longer than is looked at
	reasonMalformed   reason = "malformed"    // not of the shape of a key or token
	reasonAlgorithm   reason = "algorithm"    // a signature algorithm that the issuer does not use
	reasonUnknownKey  reason = "unknown_key"  // an API key or a signing key that is not known
	reasonSignature   reason = "signature"    // the signature is wrong
	reasonIssuer      reason = "issuer"       // another issuer
	reasonAudience    reason = "audience"     // meant for somebody else
	reasonClaims      reason = "claims"       // a claim is missing or has the wrong type
	reasonEnded       reason = "ended"        // expired or revoked
	reasonNotYet      reason = "not_yet"      // valid in the future only
	reasonPanic       reason = "panic"        // the check itself broke, which is a bug
	reasonForbidden   reason = "forbidden"    // good, but not for this dataset
	reasonKeysMissing reason = "keys_missing" // the issuer's keys could not be had
	reasonQuota       reason = "quota"        // the quota is used up
)
