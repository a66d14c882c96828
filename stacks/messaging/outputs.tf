output "dead_letter_topics" {
  description = "Id of the topic that rejected records go to"
  value       = { for name, topic in google_pubsub_topic.dead_letters : name => topic.id }
}

output "subscriptions" {
  description = "Id of the subscription that ingest pulls"
  value       = { for name, subscription in google_pubsub_subscription.ingest : name => subscription.id }
}

output "topics" {
  description = "Id of each dataset's topic"
  value       = { for name, topic in google_pubsub_topic.records : name => topic.id }
}
