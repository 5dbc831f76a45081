"""int8: the texts that a model is quantised by, and how near its vectors stay to those in float32.

Plain data and arithmetic; the OpenVINO engine quantises. Imports `readers`. Start reading at
`calibration`.
"""
