-- Health of a FineTuningJob for Argo CD: docs/gitops.md says where it goes.
local health = { status = "Progressing", message = "Waiting for the operator" }
local status = obj.status
if status == nil or status.phase == nil then
  return health
end
if status.observedGeneration ~= obj.metadata.generation then
  health.message = "Waiting for the operator to see the newest spec"
  return health
end

local held = {}
for _, condition in ipairs(status.conditions or {}) do
  if condition.status == "True" then
    held[condition.type] = condition
  end
end
health.message = status.message or status.reason or status.phase

if held["Stalled"] ~= nil then
  health.status, health.message = "Degraded", held["Stalled"].message
elseif held["Ready"] ~= nil then
  health.status = "Healthy"
elseif held["Suspended"] ~= nil then
  health.status = "Suspended"
end
return health
