# The rules that tflint brings along; the providers' schemas are checked by `terraform validate`.
plugin "terraform" {
  enabled = true
  preset  = "all"
}
